; The persistent tensors of an exported library by name: a template of `library.py`, as `library.ll` is.

; The place of the tensor called %name, or null; its bytes where %bytes is no null pointer.
define ptr @$PREFIX_tensor(ptr %memory, ptr %name, ptr %bytes) nounwind {
entry:
  %no.memory = icmp eq ptr %memory, null
  %no.name = icmp eq ptr %name, null
  %is.null = or i1 %no.memory, %no.name
  br i1 %is.null, label %none, label %given
given:
  %mark = load i64, ptr %memory, align 8
  %is.ready = icmp eq i64 %mark, $ABI
  br i1 %is.ready, label %head, label %none
head:
  %i = phi i64 [ 0, %given ], [ %i.next, %other ]
  %more = icmp slt i64 %i, $TENSOR_COUNT
  br i1 %more, label %compare, label %none
compare:
  %line = getelementptr { ptr, i64, i64 }, ptr @tensors, i64 %i
  %known = load ptr, ptr %line, align 8
  br label %letter
letter:
  %k = phi i64 [ 0, %compare ], [ %k.next, %same ]
  %known.at = getelementptr i8, ptr %known, i64 %k
  %known.letter = load i8, ptr %known.at, align 1
  %given.at = getelementptr i8, ptr %name, i64 %k
  %given.letter = load i8, ptr %given.at, align 1
  %is.same = icmp eq i8 %known.letter, %given.letter
  br i1 %is.same, label %same, label %other
same:
  %k.next = add i64 %k, 1
  %is.end = icmp eq i8 %known.letter, 0
  br i1 %is.end, label %found, label %letter
other:
  %i.next = add i64 %i, 1
  br label %head
found:
  %size.at = getelementptr { ptr, i64, i64 }, ptr @tensors, i64 %i, i32 2
  %size = load i64, ptr %size.at, align 8
  %is.wanted = icmp ne ptr %bytes, null
  br i1 %is.wanted, label %sized, label %placed
sized:
  store i64 %size, ptr %bytes, align 8
  br label %placed
placed:
  %place.at = getelementptr { ptr, i64, i64 }, ptr @tensors, i64 %i, i32 1
  %place = load i64, ptr %place.at, align 8
  %tensor = getelementptr i8, ptr $TENSOR_BASE, i64 %place
  ret ptr %tensor
none:
  ret ptr null
}
