; Where the tensors of an exported library change: a template of `library.py`, as `library.ll` is.

; Whether a call may go on: 0, or the code of the error.
define internal i32 @checked(ptr %memory, ptr %file, i64 %bytes) nounwind {
  %no.memory = icmp eq ptr %memory, null
  %no.file = icmp eq ptr %file, null
  %is.null = or i1 %no.memory, %no.file
  br i1 %is.null, label %null, label %given
given:
  %mark = load i64, ptr %memory, align 8
  %is.ready = icmp eq i64 %mark, $ABI
  br i1 %is.ready, label %ready, label %unready
ready:
  %is.short = icmp slt i64 %bytes, $FILE_BYTES
  %code = select i1 %is.short, i32 7, i32 0
  ret i32 %code
unready:
  ret i32 4
null:
  ret i32 5
}

; Copies all tensors from memory to a file, or back.
define internal void @exchange(ptr %memory, ptr %file, i1 %saves) nounwind {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i.next, %body ]
  %offset = phi i64 [ $HEADER_BYTES, %entry ], [ %offset.next, %body ]
  %more = icmp slt i64 %i, $TENSOR_COUNT
  br i1 %more, label %body, label %done
body:
  %place.at = getelementptr { ptr, i64, i64 }, ptr @tensors, i64 %i, i32 1
  %place = load i64, ptr %place.at, align 8
  %size.at = getelementptr { ptr, i64, i64 }, ptr @tensors, i64 %i, i32 2
  %size = load i64, ptr %size.at, align 8
  %tensor = getelementptr i8, ptr %memory, i64 %place
  %stored = getelementptr i8, ptr %file, i64 %offset
  %target = select i1 %saves, ptr %stored, ptr %tensor
  %source = select i1 %saves, ptr %tensor, ptr %stored
  call void @llvm.memcpy.p0.p0.i64(ptr %target, ptr %source, i64 %size, i1 false)
  %offset.next = add i64 %offset, %size
  %i.next = add i64 %i, 1
  br label %head
done:
  ret void
}

define i32 @$PREFIX_save(ptr %memory, ptr %file, i64 %bytes) nounwind {
  %code = call i32 @checked(ptr %memory, ptr %file, i64 %bytes)
  %is.good = icmp eq i32 %code, 0
  br i1 %is.good, label %save, label %done
save:
  call void @llvm.memcpy.p0.p0.i64(ptr %file, ptr @file_header, i64 $HEADER_BYTES, i1 false)
  call void @exchange(ptr %memory, ptr %file, i1 true)
  br label %done
done:
  ret i32 %code
}

define i32 @$PREFIX_load(ptr %memory, ptr %file, i64 %bytes) nounwind {
entry:
  %code = call i32 @checked(ptr %memory, ptr %file, i64 %bytes)
  %is.good = icmp eq i32 %code, 0
  br i1 %is.good, label %head, label %done
head:
  %i = phi i64 [ 0, %entry ], [ %i.next, %same ]
  %more = icmp slt i64 %i, $HEADER_BYTES
  br i1 %more, label %compare, label %load
compare:
  %known.at = getelementptr i8, ptr @file_header, i64 %i
  %known = load i8, ptr %known.at, align 1
  %given.at = getelementptr i8, ptr %file, i64 %i
  %given = load i8, ptr %given.at, align 1
  %is.same = icmp eq i8 %known, %given
  br i1 %is.same, label %same, label %other
same:
  %i.next = add i64 %i, 1
  br label %head
load:
  call void @exchange(ptr %memory, ptr %file, i1 false)
  %last.at = getelementptr i64, ptr %memory, i64 2
  store i64 -1, ptr %last.at, align 8 ; what was made of the tensors is out of date
  %held.at = getelementptr i64, ptr %memory, i64 7
  store i64 0, ptr %held.at, align 8
  br label %done
other:
  ret i32 8
done:
  ret i32 %code
}

define i32 @$PREFIX_continue(ptr %memory, i64 %seed, i64 %updates) nounwind {
  %is.null = icmp eq ptr %memory, null
  br i1 %is.null, label %null, label %given
given:
  %mark = load i64, ptr %memory, align 8
  %is.ready = icmp eq i64 %mark, $ABI
  br i1 %is.ready, label %numbers, label %unready
numbers:
  %either = or i64 %seed, %updates
  %is.negative = icmp slt i64 %either, 0
  br i1 %is.negative, label %wrong.settings, label %ready
ready:
  %seed.at = getelementptr i64, ptr %memory, i64 4
  store i64 %seed, ptr %seed.at, align 8
  %step.at = getelementptr i64, ptr %memory, i64 5
  store i64 %updates, ptr %step.at, align 8
  ret i32 0
unready:
  ret i32 4
null:
  ret i32 5
wrong.settings:
  ret i32 12
}
