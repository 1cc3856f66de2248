"""A page as a tree of elements, by the standard library's parser."""

from html.parser import HTMLParser

EMPTY = {"meta", "img", "input", "br", "link", "hr"}


class Element:
    """A tag, its attributes, its children (elements and texts)."""

    def __init__(self, tag, attributes=(), parent=None):
        self.tag, self.attributes, self.parent = tag, dict(attributes), parent
        self.children = []

    def __getitem__(self, name):
        return self.attributes.get(name)

    @property
    def text(self):
        parts = (c if isinstance(c, str) else c.text for c in self.children)
        return " ".join("".join(parts).split())

    @property
    def above(self):
        """All elements that this one lies in, the nearest first."""
        return [] if self.parent is None else [self.parent, *self.parent.above]

    def all(self, *tags):
        """Returns the elements below, in the order of the page."""
        found = []
        for child in self.children:
            if not isinstance(child, str):
                found += [child] * (not tags or child.tag in tags) + child.all(*tags)
        return found

    def section(self, heading):
        """Returns the section of a heading."""
        (found,) = (s for s in self.all("section") if s.all("h2")[0].text == heading)
        return found

    def rows(self):
        """Returns the texts of the cells of all rows of tables below."""
        return [[cell.text for cell in row.all("th", "td")] for row in self.all("tr")]


class _Parser(HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = self.here = Element("")

    def handle_starttag(self, tag, attrs):
        element = Element(tag, attrs, self.here)
        self.here.children.append(element)
        if tag not in EMPTY:
            self.here = element

    def handle_startendtag(self, tag, attrs):
        self.here.children.append(Element(tag, attrs, self.here))

    def handle_endtag(self, tag):
        assert self.here.tag == tag, f"</{tag}> ends <{self.here.tag}>"
        self.here = self.here.parent

    def handle_data(self, data):
        self.here.children.append(data)


def parsed(page):
    """Returns the root; every element that is not empty must be closed."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert parser.here is parser.root
    return parser.root
