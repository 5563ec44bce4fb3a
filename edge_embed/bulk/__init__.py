"""Files of any size: texts read in parts, vectors written in parts, and runs that can be resumed.

Others may use `read_parts` and `Part` from `edge_embed.bulk.rows`, `open_output` and `json_lines` from
`edge_embed.bulk.formats`, `embed_file` from `edge_embed.bulk.job`, and `stream` from
`edge_embed.bulk.stream`.
"""
