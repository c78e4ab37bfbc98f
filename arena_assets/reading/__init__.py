"""Files of rows, read as they are written: text stays text, and a row that is broken is told apart.

Prompt sources and recorded answers are both read here (`files.read_records`). What the columns of a
row mean is no concern of this package.
"""
