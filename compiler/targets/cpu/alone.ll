
; Where no other thread is: in place of `team.ll`.
define internal void @barrier(ptr %sync, i32 %thread, i32 %threads) nounwind {
  ret void
}
