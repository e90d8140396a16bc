"""The index: which positions of the log an expression of terms selects."""
