"""The command line: one thin function a verb, and one place that turns errors into sentences and exit codes.

entry    main: runs a command, tells what went wrong      show       what people see, on stderr and as tables
app      the verbs                                        stream     answers for files and for standard input
doctor   what this machine has                            template   the recipe that `init` writes
store    what is kept of frozen stages                    plan       what a training would take
features vectors for a model of one's own
"""

from thawline.cli.entry import main

__all__ = ["main"]
