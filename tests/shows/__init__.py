"""Shows: what takes minutes at its full length, run by hand; the tests play the same stories with shorter waits."""
