"""One module for each family of metrics; `thawline.evaluate.metrics` has the table of them."""
