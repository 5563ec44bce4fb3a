"""Trim: a checkpoint with fewer rows in its token table, and the same vectors for every text that it covers.

Two thirds of EmbeddingGemma's weights are its table. `trim.trim` keeps the rows that given texts need;
`edge_embed trim` calls it.
"""
