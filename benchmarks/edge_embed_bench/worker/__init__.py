"""The process that measures one engine.

`measure` is its main module and imports the standard library only. `process` is the parent's side,
`own_engine` this project's runtime, `probes` answers a file's stored probes, `token_ids` makes input.
"""
