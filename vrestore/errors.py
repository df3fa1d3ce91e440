"""The tree of errors. Each carries the exit code that the command line ends with.

    VRestoreError               1
    ├── UsageError              2   what was asked for cannot be
    │   ├── ConfigError         2   a setting outside its range, or settings that exclude each other
    │   ├── MissingInputError   2   the input path does not exist
    │   └── DeviceError         2   a device that this machine does not have
    ├── MediaError              1   the input exists but cannot be used
    │   ├── UnreadableMediaError    not a video or picture, empty, truncated, damaged
    │   ├── EmptyMediaError         a container without a single decodable frame
    │   └── UnsupportedMediaError   understood, but not handled: the message says what to do
    ├── OutputError             1   the output cannot be written
    ├── PlanError               1   a plan that breaks an invariant of the core
    ├── PriorError              1   a prior that cannot do what is asked, or whose weights are missing
    ├── NotEnoughMemoryError    1   memory ran out, also with the smallest tiles
    └── ResumeError             1   a job folder that does not fit the input or the settings

A batch of which some clips failed ends with 3; each clip's own error stands in its report.

A message says what was wrong, the value, what is allowed and what to do.
"""


class VRestoreError(Exception):
    """Base of everything that vrestore raises on purpose."""

    exit_code = 1


class UsageError(VRestoreError):
    """What was asked for cannot be done; nothing was read or written."""

    exit_code = 2


class ConfigError(UsageError, ValueError):
    """A setting outside its allowed range, or settings that exclude each other."""


class MissingInputError(UsageError, FileNotFoundError):
    """The input path does not exist."""


class DeviceError(UsageError):
    """The requested device is not available on this machine."""


class MediaError(VRestoreError):
    """The input exists but cannot be used."""


class UnreadableMediaError(MediaError):
    """Not a video or picture, empty, truncated or damaged."""


class EmptyMediaError(MediaError):
    """A container that holds no decodable frame."""


class UnsupportedMediaError(MediaError):
    """A well-formed input of a kind that is not handled."""


class OutputError(VRestoreError, OSError):
    """The output cannot be written."""


class PlanError(VRestoreError):
    """A plan that breaks an invariant of the core."""


class PriorError(VRestoreError):
    """A prior that cannot do what is asked of it, or whose weights cannot be loaded."""


class NotEnoughMemoryError(VRestoreError, MemoryError):
    """Memory ran out, and no smaller plan is left to try."""


class ResumeError(VRestoreError):
    """A job folder that does not belong to this input or these settings."""
