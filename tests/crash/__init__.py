"""The crash harness: a real server is killed, frozen and cut off, and a checker looks for what was lost or came twice.

`python -m tests.crash --help`, and README.md beside this file.
"""
