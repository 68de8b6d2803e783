"""The thaw line: what lies below it is computed once, stored, and replayed."""
