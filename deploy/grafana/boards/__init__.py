"""Grafana's boards for Farpoint as code: `python -m boards`, in this folder, writes the JSON in `dashboards/`.

A board is a list of rows, a row a list of panels, a panel a title, a description and queries. What all have in common,
such as the data source, the selectors and the links, is in `board.py`, `panels.py` and `promql.py`.
"""
