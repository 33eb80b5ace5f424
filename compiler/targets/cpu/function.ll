; A function of an exported library that is one program: a template of `library_calls.py`, as `library.ll` is.

define i32 @$PREFIX_$NAME(ptr %memory, i64 %rows$PARAMETERS) nounwind {
$NULLS
nonnull:
$CHECKS
settled:
  %too.many = icmp sgt i64 %rows, $MOST_ROWS
  %asked = select i1 %too.many, i64 -1, i64 %rows
  %code = call i32 @ready(ptr %memory, i64 %asked)
  %is.ready = icmp eq i32 %code, 0
  br i1 %is.ready, label %ready, label %refused
ready:
  br i1 $TRAINS, label %train, label %run
train:
  %held.at = getelementptr i64, ptr %memory, i64 7
  store i64 0, ptr %held.at, align 8 ; the states of a sequence are those of other weights
  %seed.at = getelementptr i64, ptr %memory, i64 4
  %seed.kept = load i64, ptr %seed.at, align 8
  %step.at = getelementptr i64, ptr %memory, i64 5
  %step.kept = load i64, ptr %step.at, align 8
  %step.next = add i64 %step.kept, 1
  store i64 %step.next, ptr %step.at, align 8
  br label %run
run:
  ; a prediction draws the same numbers whatever was trained before, as it does everywhere
  %seed = phi i64 [ 0, %ready ], [ %seed.kept, %train ]
  %step = phi i64 [ 0, %ready ], [ %step.kept, %train ]
  %ran = call i32 @run_$NAME(ptr %memory, i64 %rows, i64 %seed, i64 %step$PARAMETERS)
  ret i32 %ran
refused:
  ret i32 %code
null:
  ret i32 5
wrong.settings:
  ret i32 12
}
