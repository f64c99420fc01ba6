"""Reference cases that a user's own machine can be held against: `spc verify`.

What is compared with what is data: the files of ``cases/`` name the source of every figure and print it as the source does.
``case_files`` reads them, ``computations`` says how a figure is obtained from the public functions of the core, ``judging``
compares, ``qualification`` writes the report. Nothing here imports Dagster, and no expected figure is our own output.
"""
