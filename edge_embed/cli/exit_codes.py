"""The exit codes of every command."""

OK, CHECK_FAILED, BAD_INPUT, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

HELP = f"""\
exit codes:
  {OK:<3}  done
  {CHECK_FAILED:<3}  a check failed: the file does not agree with its source or with itself
  {BAD_INPUT:<3}  bad usage, or input that cannot be used
  {INTERRUPTED:<3}  interrupted
  {PIPE_CLOSED:<3}  the program that read the output stopped reading"""
