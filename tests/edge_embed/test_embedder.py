def test_smoke(tiny_model, tiny_sentencepiece_model, capfd):
    from edge_embed import Embedder
    for p in (tiny_model, tiny_sentencepiece_model):
        m = Embedder(p)
        print(m, m.encode_query("what is the red planet"), m.tokenize(["what is the red planet ☃ <eos>"]))
        from edge_embed._litert import partitions
        print(partitions(p, 8), partitions(p, 32))
