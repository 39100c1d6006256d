"""What the rows of a run say, before any rule judges them: one value, folded row by row."""
