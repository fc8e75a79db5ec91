"""Resolving: what several sources' opinions about one row come to, and which conflicts they meet.

Pure. Used by the resolver and by `gravity resolve` alike. `register` holds what is known of a row,
`strategy` and `merge` what it comes to, `conflict` what is to be reported, `value` how cells compare.
"""
