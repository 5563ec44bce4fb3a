"""Other engines over the same weights. `registry` lists them and prepares their files.

Every other module is one engine and is imported only in the process that measures it.
"""
