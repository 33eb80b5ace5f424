; The step of an exported library whose updates take several batches: a template of `library_calls.py`, as `library.ll` is.

define i32 @$PREFIX_step(ptr %memory, i64 %rows$PARAMETERS) nounwind {
$NULLS
nonnull:
$CHECKS
settled:
  %too.many = icmp sgt i64 %rows, $MOST_ROWS_OF_UPDATE
  %is.short = icmp slt i64 %rows, $BATCH
  %first.rows = select i1 %is.short, i64 %rows, i64 $BATCH
  %asked = select i1 %too.many, i64 -1, i64 %first.rows
  %code = call i32 @ready(ptr %memory, i64 %asked)
  %is.ready = icmp eq i32 %code, 0
  br i1 %is.ready, label %ready, label %refused
ready:
  %held.at = getelementptr i64, ptr %memory, i64 7
  store i64 0, ptr %held.at, align 8 ; the states of a sequence are those of other weights
  %seed.at = getelementptr i64, ptr %memory, i64 4
  %seed = load i64, ptr %seed.at, align 8
  %update.at = getelementptr i64, ptr %memory, i64 5
  %update = load i64, ptr %update.at, align 8
  %update.next = add i64 %update, 1
  store i64 %update.next, ptr %update.at, align 8
  %draws = mul i64 %update, $BATCHES
  br label %each.pass
each.pass:
  %pass = phi i32 [ $FIRST_PASS, %ready ], [ 1, %counted ]
  br label %head
head:
  %done = phi i64 [ 0, %each.pass ], [ %done.next, %next ]
  %number = phi i64 [ 0, %each.pass ], [ %number.next, %next ]
  %more = icmp slt i64 %done, %rows
  br i1 %more, label %batch, label %passed
batch:
  %left = sub i64 %rows, %done
  %is.last = icmp slt i64 %left, $BATCH
  %some = select i1 %is.last, i64 %left, i64 $BATCH
  %step = add i64 %draws, %number
$PARTS
  %is.counting = icmp eq i32 %pass, 0
  br i1 %is.counting, label %count, label %accumulate
count:
$COUNT
  br label %ran
accumulate:
  %accumulated = call i32 @run_accumulating(ptr %memory, i64 %some, i64 %seed, i64 %step$ACCUMULATING)
  br label %ran
ran:
  %went = phi i32 [ %counted.now, %count ], [ %accumulated, %accumulate ]
  %is.good = icmp eq i32 %went, 0
  br i1 %is.good, label %next, label %failed
next:
  %done.next = add i64 %done, %some
  %number.next = add i64 %number, 1
  br label %head
passed:
  %was.counting = icmp eq i32 %pass, 0
  br i1 %was.counting, label %counted, label %finish
counted:
  br label %each.pass
finish:
  %updated = call i32 @run_updating(ptr %memory, i64 1, i64 %seed, i64 %update$UPDATING)
  ret i32 %updated
failed:
  ret i32 %went
refused:
  ret i32 %code
null:
  ret i32 5
wrong.settings:
  ret i32 12
}
