"""HTML pages that stand alone: templates, charts as SVG, tables and a gallery of pictures; knows no detector."""
