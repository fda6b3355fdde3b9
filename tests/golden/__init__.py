"""Golden traces: what each of many command lines sends and prints, recorded once and compared from then on.

A scenario (`scenarios/`) is a cluster in some state and command lines that are run on it. They are run in this process
by the program's entry point, urllib3 hands their requests to a fake API server, and clock and random numbers are
given. The transcript of a command line has its exit code, stdout, stderr and all requests with their bodies, grouped
by rounds (see `rounds`). `traces/` has the recorded transcripts, one file for each subject.

    python -m tests.golden record    writes them
    python -m tests.golden compare   prints what differs; exit code 1 if anything does

`compare --ignore-reads` compares only exit codes, what is printed, and writes, for a change that reads otherwise.

The only names of the program that are used are in `seam`. A change of behaviour that is wanted changes the traces:
record them again, and look at the difference in the commit.
"""
