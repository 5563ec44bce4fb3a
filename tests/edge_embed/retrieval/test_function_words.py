"""Words such as "how" are no reason to find a chunk, even where they are rare."""


def test_function_words_find_nothing_beside_other_words(index):
    index.add(
        [
            {"id": "sting", "text": "How you scrape it out matters less than how fast."},
            {"id": "kettle", "text": "Limescale goes away with citric acid."},
            {"id": "band", "text": "The Who and the Was (Not Was) played all night."},
        ]
    )
    hits = index.search("how do I get rid of limescale?", mode="text")
    assert [hit.document_id for hit in hits] == ["kettle"]
    assert index.search("the who", mode="text")[0].document_id == "band"
