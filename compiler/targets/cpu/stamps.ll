
; What only the runner of a profile has: for each thread a buffer of events. The slot of the program block
; that $BUFFERS_SLOT names holds the address of the buffers' addresses. A buffer is its number of events, those
; that there is room for, and from byte $EVENTS on the events: $EVENT_SLOTS i64 each. Events that found no room are
; counted and not kept.

define internal i64 @ticks() nounwind {
  %now = call i64 @clock()
  ret i64 %now
}

define i64 @dlc_ticks() nounwind {
  %now = call i64 @ticks()
  ret i64 %now
}

define internal void @stamp(ptr %abi, i32 %thread, i64 %line, i64 %begin, i64 %first, i64 %last, i64 %shard) nounwind {
entry:
  %end = call i64 @ticks()
  %buffers.at = getelementptr i64, ptr %abi, i64 $BUFFERS_SLOT
  %buffers = load ptr, ptr %buffers.at, align 8
  %buffer.at = getelementptr ptr, ptr %buffers, i32 %thread
  %buffer = load ptr, ptr %buffer.at, align 8
  %count = load i64, ptr %buffer, align 8
  %room.at = getelementptr i64, ptr %buffer, i64 1
  %room = load i64, ptr %room.at, align 8
  %more = add i64 %count, 1
  store i64 %more, ptr %buffer, align 8
  %fits = icmp slt i64 %count, %room
  br i1 %fits, label %keep, label %done
keep:
  %events = getelementptr i8, ptr %buffer, i64 $EVENTS
  %slot = mul i64 %count, $EVENT_SLOTS
  %event = getelementptr i64, ptr %events, i64 %slot
  store i64 %line, ptr %event, align 8
  %begin.at = getelementptr i64, ptr %event, i64 1
  store i64 %begin, ptr %begin.at, align 8
  %end.at = getelementptr i64, ptr %event, i64 2
  store i64 %end, ptr %end.at, align 8
  %first.at = getelementptr i64, ptr %event, i64 3
  store i64 %first, ptr %first.at, align 8
  %last.at = getelementptr i64, ptr %event, i64 4
  store i64 %last, ptr %last.at, align 8
  %shard.at = getelementptr i64, ptr %event, i64 5
  store i64 %shard, ptr %shard.at, align 8
  br label %done
done:
  ret void
}

$TEAM ; Stamp a barrier around a step.
$TEAM define internal void @stamp_around(ptr %abi, i32 %thread, i32 %threads, i64 %line, i64 %begin) nounwind {
  $TEAM call void @stamp(ptr %abi, i32 %thread, i64 %line, i64 %begin, i64 0, i64 $WAITS, i64 -1)
  $TEAM ret void
$TEAM }
