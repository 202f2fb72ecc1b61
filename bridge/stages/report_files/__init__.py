"""A report as tables, the list of its files, and whether a folder of them is whole and agrees in itself.

    report.json (document) ──tables──► csv/NAME.csv, parquet/NAME.parquet, README.txt ──manifest──► manifest.json

Tables are made of the document, not of the report it was made of: so whoever has the folder can make them again.
"""
