"""The errors a user can mend, each with the exit code that the stages and the command line report.

A message names the file or the key, the value that was found, and what to do about it.
Anything else that escapes is a bug and exits with 1.
"""


class PipelineError(Exception):
    """Base of every error that is meant for the user; its text is printed without a traceback."""

    exit_code = 1


class ParamsError(PipelineError):
    """`params.yaml` (or an override of it) is wrong."""

    exit_code = 2


class InputError(PipelineError):
    """A file or folder that was given, or that an earlier stage left, cannot be used."""

    exit_code = 3


class TrainingError(PipelineError):
    """A training diverged or collapsed; the message says which monitor fired and what to change."""

    exit_code = 1


class LostProcessError(PipelineError):
    """Another of the processes that run a stage together ended; its own message says why."""

    exit_code = 4
