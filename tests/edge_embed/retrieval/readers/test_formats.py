"""Files of every format as documents, and files that cannot be read."""

import datetime
import json

import pytest

from edge_embed.errors import MissingExtraError
from edge_embed.retrieval.chunks import cut
from edge_embed.retrieval.readers import Fields, File, UnreadableError, read_documents
from edge_embed.retrieval.readers.html import extract


@pytest.fixture
def read(tmp_path):
    """`read("a.md", content)` writes a file and returns its documents."""

    def call(name, content, fields=None):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(read_documents(File(path, f"notes/{name}", fields or Fields())))

    return call


def test_text_is_the_file_itself(read):
    (document,) = read("sour-dough_bread.txt", "\ufeffFlour and water.\r\n")
    assert (document.id, document.title, document.kind) == (
        "notes/sour-dough_bread.txt",
        "sour dough bread",
        "text",
    )
    assert document.text == "Flour and water.\r\n"
    assert document.metadata == {"path": "notes/sour-dough_bread.txt", "format": "text"}


def test_markdown_takes_its_title_from_the_front_matter_or_the_first_heading(read):
    assert read("a.md", "---\ntags: x\ntitle: 'The bread'\n---\n# Other\n")[0].title == "The bread"
    assert read("a.md", "Some words.\n\n# The *bread* #\n")[0].title == "The *bread*"
    assert read("a.md", "The bread\n=====\n\nWords.")[0].title == "The bread"
    assert read("a.md", "Words.")[0].title == "a"


def test_source_code_is_named_by_its_file(read):
    (document,) = read("box.py", "class Box:\n    pass\n")
    assert (document.kind, document.title, document.metadata["format"]) == ("code", "box.py", "code")


def test_other_encodings(read):
    assert read("a.txt", "grün".encode("utf-16"))[0].text == "grün"
    assert read("a.txt", "grün".encode("utf-32"))[0].text == "grün"
    assert read("a.html", '<meta charset="latin-1"><p>grün</p>'.encode("latin-1"))[0].text == "grün"


HTML = """<!doctype html><html><head><title> Red &amp;
 planets </title><style>p {}</style></head>
<body><nav>Home | About</nav><h1>Mars <em>today</em></h1>
<p>It is&nbsp;<b>red</b>,
   and rusty.<br>Very.</p><script>var x = "no";</script>
<h2>Moons</h2><ul><li>Phobos<li>Deimos</ul>
<table><tr><th>Name<td>km</tr><tr><td>Phobos</td><td>22</td></tr></table>
<pre>x = 1
  y = 2</pre><img src=x alt="a picture"><p>last
"""


def test_html_becomes_markdown(read):
    (document,) = read("mars.html", HTML)
    assert document.title == "Red & planets"
    assert document.kind == "markdown"
    assert document.text == (
        "# Mars today\n\nIt is\xa0red, and rusty.\nVery.\n\n## Moons\n\n- Phobos\n- Deimos\n\n"
        "| Name| km\n| Phobos | 22\n\n```\nx = 1\n  y = 2\n```\n\na picture\n\nlast"
    )
    chunks = cut(document.text, count=lambda text: len(text.split()), size=12, kind="markdown")
    assert chunks[-1].headings == ("Mars today", "Moons")


@pytest.mark.parametrize(
    "page",
    ["<p>a", "<h1>b</h2>", "</p></pre></h1>x", "<pre>x", "<li>x", "<td>x", "<title>x<p>y", "<a" * 5000],
)
def test_broken_html_is_read_as_far_as_it_goes(read, page):
    text = extract(page)[1]
    assert "<" not in text.replace("<a<a", "")


def test_jsonl_records_are_documents_with_their_fields_as_metadata(read):
    lines = [
        {"_id": 7, "title": "Mars", "text": "Red.", "lang": "en", "tags": ["x", None], "n": 1.5},
        {"text": "No id,\0 no title."},
    ]
    first, second = read("d.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    assert (first.id, first.title, first.text) == ("notes/d.jsonl#7", "Mars", "Red.")
    about = {"path": "notes/d.jsonl", "format": "jsonl"}
    assert first.metadata == {"lang": "en", "tags": ["x", None], "n": 1.5} | about
    assert (second.id, second.title, second.text) == ("notes/d.jsonl#2", "", "No id,  no title.")
    fields = Fields(text="body", title="name", id="key")
    (third,) = read("d.jsonl", json.dumps({"key": "k", "name": "N", "body": "B", "text": "T"}), fields)
    assert (third.id, third.title, third.text, third.metadata["text"]) == ("notes/d.jsonl#k", "N", "B", "T")


def test_parquet_rows_are_documents(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(
        {"text": ["Red.", "Blue."], "id": ["a", "b"], "day": [datetime.date(2026, 1, 2)] * 2}
    )
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "d.parquet")
    first, second = read_documents(File(tmp_path / "d.parquet", "d.parquet"))
    assert (first.id, second.text, first.metadata["day"]) == ("d.parquet#a", "Blue.", "2026-01-02")


def make_pdf(*pages):
    """Returns a PDF with a line of text a page."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        None,
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {len(objects)} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    return out + f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF".encode()


def test_pdf_pages_are_one_document(read):
    pytest.importorskip("pypdf")
    (document,) = read("mars.pdf", make_pdf("The red planet.", "Its moons."))
    assert document.text == "The red planet.\fIts moons."
    assert (document.title, document.metadata["pages"]) == ("mars", 2)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", "\xfcber".encode("latin-1"), "not UTF-8: byte 0xfc at 0"),
        ("a.txt", b"a\0b", "not text: NUL at character 1"),
        ("a.md", " \n", "no text in it"),
        ("a.html", '<meta charset="klingon"><p>x', "an unknown encoding, klingon"),
        ("a.jsonl", '{"text": "x"}\nnope', "line 2: not JSON"),
        ("a.jsonl", "[1]", "line 1: not a JSON object, but list"),
        ("a.jsonl", '{"body": "x"}', "line 1: no text in the field 'text' (got: body)"),
        ("a.jsonl", '{"text": 3}', "(got: int)"),
        ("a.pdf", "just words", "not a PDF"),
        ("a.pdf", "%PDF-1.4 cut off", "a damaged PDF"),
        ("a.parquet", "just words", "a damaged Parquet file"),
    ],
)
def test_what_cannot_be_read_says_why(read, name, content, reason):
    if package := {"a.pdf": "pypdf", "a.parquet": "pyarrow"}.get(name):
        pytest.importorskip(package)
    with pytest.raises(UnreadableError) as caught:
        read(name, content)
    assert reason in caught.value.what


def test_pdfs_without_text_and_with_a_password(read, tmp_path):
    pypdf = pytest.importorskip("pypdf")
    with pytest.raises(UnreadableError, match="without text"):
        read("scan.pdf", make_pdf(""))
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.encrypt("secret", algorithm="RC4-40")
    writer.write(tmp_path / "closed.pdf")
    with pytest.raises(UnreadableError, match="password"):
        list(read_documents(File(tmp_path / "closed.pdf", "closed.pdf")))


def test_a_deleted_file_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    for name in ("gone.txt", "gone.jsonl", "gone.parquet"):
        with pytest.raises(UnreadableError, match="deleted"):
            list(read_documents(File(tmp_path / name, name)))


def test_too_large_a_file_is_refused(tmp_path, monkeypatch):
    from edge_embed.retrieval.readers import formats

    monkeypatch.setattr(formats, "LARGEST", 3)
    (tmp_path / "a.txt").write_text("four")
    with pytest.raises(UnreadableError, match="too large"):
        list(read_documents(File(tmp_path / "a.txt", "a.txt")))


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("a.pdf", "pypdf", "documents"), ("a.parquet", "pyarrow", "parquet")]
)
def test_a_missing_package_names_its_extra(read, monkeypatch, name, package, extra):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"edge-embed\[{extra}\]"):
        read(name, b"%PDF-")
