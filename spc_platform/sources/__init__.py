"""One module per protocol behind one small Source protocol: what a source said, page by page, unchanged."""
