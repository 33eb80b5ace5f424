; One program of an exported library: a template of `library_program.py`, as `library.ll` is.

; Write what stays in its tables.
define internal void @$NAME_lay_out(ptr %memory, i64 %rows, ptr %numbers) nounwind {
  %padded = add i64 %rows, $LESS_THAN_ROUNDING
  %capacity = and i64 %padded, -$ROUNDING
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

; Run it once, with these numbers for random draws: 0, or the code of an error.
define internal i32 @run_$NAME(ptr %memory, i64 %rows, i64 %seed, i64 %step$PARAMETERS) nounwind {
  %most.at = getelementptr i64, ptr %memory, i64 1
  %most = load i64, ptr %most.at, align 8
  %padded = add i64 %most, $LESS_THAN_ROUNDING
  %capacity = and i64 %padded, -$ROUNDING
  %arenas = getelementptr i8, ptr %memory, i64 $ARENAS
  %inputs = getelementptr i8, ptr %memory, i64 $INPUTS
  %outputs = getelementptr i8, ptr %memory, i64 $OUTPUTS
  %team = getelementptr i8, ptr %memory, i64 $TEAM
  %static = getelementptr i8, ptr %memory, i64 $STATIC
  %control = getelementptr i8, ptr %memory, i64 $CONTROL
$FED
  ; what runs once is run again where another program ran in between, or more rows are asked for than it has filled
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
$CONTROLS
  %workers.at = getelementptr i64, ptr %team, i64 2
  %workers = load i32, ptr %workers.at, align 8
  %ran = call i32 @dlc_run(ptr @$NAME_program, ptr %arenas, ptr %inputs, ptr %outputs, i64 %rows, i64 %capacity, i32 0,
                           i32 %workers, ptr %team)
  %failed.at = getelementptr i64, ptr %team, i64 10
  %failed = load i64, ptr %failed.at, align 8
  %has.failed = icmp ne i64 %failed, 0
  br i1 %has.failed, label %broken, label %done
broken:
  store i64 0, ptr %memory, align 8 ; nothing in it may be used
  ret i32 10
done:
  ret i32 0
}
