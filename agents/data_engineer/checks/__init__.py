"""What the audit looks for, one family of faults a file; `agents.data_engineer.audit` shows each of them every batch.

A check has a name for each fault (`findings.Kind`), counts the rows that have it, and keeps the first few to show.
"""
