; The next token of a sequence, of an exported library: a template of `library_calls.py`, as `library.ll` is. The states hold
; what a call went through, as far as the head says, if the tokens are those that stand in the caller's memory.

define i32 @$PREFIX_generate_next(ptr %memory$SETTINGS, i64 %seed, ptr %tokens, i64 %length, ptr %token) nounwind {
$NULLS
nonnull:
$CHECKS
settled:
  %code = call i32 @ready(ptr %memory, i64 1)
  %is.ready = icmp eq i32 %code, 0
  br i1 %is.ready, label %ready, label %refused
ready:
  %is.empty = icmp slt i64 %length, 1
  %is.endless = icmp sgt i64 %length, $MOST_TOKENS
  %is.wrong = or i1 %is.empty, %is.endless
  br i1 %is.wrong, label %wrong.length, label %seeded
seeded:
  %is.negative = icmp slt i64 %seed, 0
  br i1 %is.negative, label %wrong.settings, label %begin
begin:
  %held.at = getelementptr i64, ptr %memory, i64 7
  %held = load i64, ptr %held.at, align 8
  store i64 0, ptr %held.at, align 8
  %sequence = getelementptr i8, ptr %memory, i64 $SEQUENCE
  %place = sub i64 %length, 1
  %place.bytes = mul i64 %place, $TOKEN_BYTES
  %last = getelementptr i8, ptr %tokens, i64 %place.bytes
  %is.long = icmp sgt i64 %length, $WINDOW
  br i1 %is.long, label %slide, label %within
slide:
  %before = sub i64 %length, $WINDOW
  %before.bytes = mul i64 %before, $TOKEN_BYTES
  %behind = getelementptr i8, ptr %tokens, i64 %before.bytes
  %slid = call i32 @run_window(ptr %memory, i64 1, i64 %seed, i64 %place$SETTINGS, ptr %behind, ptr %token)
  ret i32 %slid
within:
  %is.next = icmp eq i64 %held, %place
  %has.held = icmp ne i64 %held, 0
  %may.go.on = and i1 %is.next, %has.held
  br i1 %may.go.on, label %compare, label %anew
compare:
  %i = phi i64 [ 0, %within ], [ %i.next, %equal ]
  %known.at = getelementptr i8, ptr %sequence, i64 %i
  %known = load i8, ptr %known.at, align 1
  %given.at = getelementptr i8, ptr %tokens, i64 %i
  %given = load i8, ptr %given.at, align 1
  %is.equal = icmp eq i8 %known, %given
  br i1 %is.equal, label %equal, label %anew
equal:
  %i.next = add i64 %i, 1
  %others = icmp slt i64 %i.next, %place.bytes
  br i1 %others, label %compare, label %position
position:
  %went = call i32 @run_position(ptr %memory, i64 1, i64 %seed, i64 %place$SETTINGS, ptr %last, ptr %token)
  br label %ran
anew:
  %all = mul i64 %length, $POSITIONS
  %is.prompt = icmp sgt i64 %all, $WINDOW
  br i1 %is.prompt, label %prompt, label %first
first:
  %p = phi i64 [ 0, %anew ], [ %p.next, %further ]
  %p.bytes = mul i64 %p, $TOKEN_BYTES
  %p.token = getelementptr i8, ptr %tokens, i64 %p.bytes
  %p.went = call i32 @run_position(ptr %memory, i64 1, i64 %seed, i64 %p$SETTINGS, ptr %p.token, ptr %token)
  %p.good = icmp eq i32 %p.went, 0
  %p.next = add i64 %p, 1
  %p.more = icmp slt i64 %p.next, %length
  %p.again = and i1 %p.good, %p.more
  br i1 %p.again, label %further, label %ran
further:
  br label %first
prompt:
  %length.bytes = mul i64 %length, $TOKEN_BYTES
  call void @llvm.memset.p0.i64(ptr %sequence, i8 0, i64 $WINDOW_BYTES, i1 false)
  call void @llvm.memcpy.p0.p0.i64(ptr %sequence, ptr %tokens, i64 %length.bytes, i1 false)
  %filled = call i32 @run_prompt(ptr %memory, i64 1, i64 %seed, i64 %place$SETTINGS, ptr %sequence, ptr %token)
  br label %ran
ran:
  %result = phi i32 [ %went, %position ], [ %p.went, %first ], [ %filled, %prompt ]
  %is.good = icmp eq i32 %result, 0
  br i1 %is.good, label %hold, label %done
hold:
  %held.bytes = mul i64 %length, $TOKEN_BYTES
  call void @llvm.memcpy.p0.p0.i64(ptr %sequence, ptr %tokens, i64 %held.bytes, i1 false)
  store i64 %length, ptr %held.at, align 8
  br label %done
done:
  ret i32 %result
refused:
  ret i32 %code
wrong.length:
  ret i32 11
null:
  ret i32 5
wrong.settings:
  ret i32 12
}
