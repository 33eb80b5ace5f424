; One function of an exported library: a template of `library.py`, as `library.ll` is.

; Write what stays in its tables.
define internal void @$NAME_lay_out(ptr %memory, i64 %rows, ptr %numbers) nounwind {
  %rounded = call i64 @rounded(i64 %rows)
  %capacity = select i1 $IS_ROUNDED, i64 %rounded, i64 %rows
  %batch.place = call i64 @batch_place(i64 %rows)
  %batch = getelementptr i8, ptr %memory, i64 %batch.place
  %arenas = getelementptr i8, ptr %memory, i64 $ARENAS
  %inputs = getelementptr i8, ptr %memory, i64 $INPUTS
  %outputs = getelementptr i8, ptr %memory, i64 $OUTPUTS
  %static = getelementptr i8, ptr %memory, i64 $STATIC
  %control = getelementptr i8, ptr %memory, i64 $CONTROL
  %numbers.at = getelementptr i64, ptr %control, i64 $ROWS_SLOT
  store ptr %numbers, ptr %numbers.at, align 8
$PLACES
  ret void
}

define i32 @model_$NAME(ptr %memory, i64 %rows$PARAMETERS) nounwind {
$NULLS
nonnull:
  %mark = load i64, ptr %memory, align 8
  %is.ready = icmp eq i64 %mark, $ABI
  br i1 %is.ready, label %ready, label %unready
ready:
  %most.at = getelementptr i64, ptr %memory, i64 1
  %most = load i64, ptr %most.at, align 8
  %few = icmp slt i64 %rows, 1
  %many = icmp sgt i64 %rows, %most
  %wrong = or i1 %few, %many
  br i1 %wrong, label %wrong.rows, label %go
go:
  %rounded = call i64 @rounded(i64 %most)
  %capacity = select i1 $IS_ROUNDED, i64 %rounded, i64 %most
  %arenas = getelementptr i8, ptr %memory, i64 $ARENAS
  %inputs = getelementptr i8, ptr %memory, i64 $INPUTS
  %outputs = getelementptr i8, ptr %memory, i64 $OUTPUTS
  %sync = getelementptr i8, ptr %memory, i64 $SYNC
  %static = getelementptr i8, ptr %memory, i64 $STATIC
  %control = getelementptr i8, ptr %memory, i64 $CONTROL
$FED
  ; what runs once is run again where another function ran in between, or more rows are asked for than it has filled
  %last.at = getelementptr i64, ptr %memory, i64 2
  %last = load i64, ptr %last.at, align 8
  store i64 $NUMBER, ptr %last.at, align 8
  %is.same = icmp eq i64 %last, $NUMBER
  %filled.at = getelementptr i64, ptr %memory, i64 3
  %filled.before = load i64, ptr %filled.at, align 8
  %filled = select i1 %is.same, i64 %filled.before, i64 0
  %is.fresh = icmp slt i64 %filled, %rows
  %fresh = zext i1 %is.fresh to i64
  %filled.now = select i1 %is.fresh, i64 %rows, i64 %filled
  store i64 %filled.now, ptr %filled.at, align 8
  %seed.at = getelementptr i64, ptr %memory, i64 4
  %seed.kept = load i64, ptr %seed.at, align 8
  %step.at = getelementptr i64, ptr %memory, i64 5
  %step.kept = load i64, ptr %step.at, align 8
  %step.next = add i64 %step.kept, $UPDATES
  store i64 %step.next, ptr %step.at, align 8
  ; a prediction draws the same numbers whatever was trained before, as it does everywhere
  %updates = icmp ne i64 $UPDATES, 0
  %seed = select i1 %updates, i64 %seed.kept, i64 0
  %step = select i1 %updates, i64 %step.kept, i64 0
$CONTROLS
  %ran = call i32 @dlc_run(ptr @$NAME_program, ptr %arenas, ptr %inputs, ptr %outputs, i64 %rows, i64 %capacity, i32 0,
                           i32 1, ptr %sync)
  ret i32 0
wrong.rows:
  ret i32 1
unready:
  ret i32 4
null:
  ret i32 5
}
