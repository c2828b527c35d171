"""Galaxy Zoo 2's public files, as `python -m gz2vit download` fetches them.

AUTHORS: the authors' code, as in `gz2vit.paper`.
"""

from types import MappingProxyType

DATA_FILES = MappingProxyType(
    {
        # AUTHORS, gz2_data/: rows and SHA-256 of the files at the commit named there.
        "labels": tuple(
            {
                "name": name,
                "url": "https://raw.githubusercontent.com/sliao-mi-luku/Galaxy-Zoo-Classification/"
                f"e39fa7eda2eb01e16af3709a78c7ef462bf3fb10/gz2_data/{name}",
                "rows": rows,
                "columns": ("galaxyID", "label1", "label2", "label3", "label4"),
                "sha256": sha256,
            }
            for name, rows, sha256 in (
                (
                    "gz2_train.csv",
                    99_808,
                    "e31540b3235020cbbfb449bb96341f82f5e0e1eb550ed1863ac57348e6422332",
                ),
                (
                    "gz2_valid.csv",
                    24_952,
                    "ddac9317095871c2d106d05994dd1405b472d006aef784516e3b4b0740a884cc",
                ),
                (
                    "gz2_test.csv",
                    31_191,
                    "32c155a705f678acb0d65374d58de5388c452cd530a5a4615693d9fcff507b2e",
                ),
            )
        ),
        # doi:10.5281/zenodo.3565489: which image shows which SDSS object. Its MD5 was seen in one
        # public code base, not on the record's own page.
        "mapping": (
            {
                "name": "gz2_filename_mapping.csv",
                "url": "https://zenodo.org/records/3565489/files/gz2_filename_mapping.csv",
                "rows": 355_990,
                "columns": ("objid", "sample", "asset_id"),
                "md5": "7e28465e6dfbf96c0d828c595a5bbd80",
            },
        ),
        # Hart et al. 2016 (MNRAS 461, 3663): volunteers' votes. No checksum is published.
        "votes": (
            {
                "name": "gz2_hart16.csv.gz",
                "url": "https://gz2hart.s3.amazonaws.com/gz2_hart16.csv.gz",
                "rows": 239_695,
                "columns": ("dr7objid",),
            },
        ),
        # data.galaxyzoo.org, Galaxy Zoo 2's sample: sizes and magnitudes. No checksum is published.
        "properties": (
            {
                "name": "gz2sample.csv.gz",
                "url": "https://zooniverse-data.s3.amazonaws.com/galaxy-zoo-2/gz2sample.csv.gz",
                "rows": 325_704,
                "columns": (
                    "OBJID",
                    "PETROR50_R",
                    "PETROR90_R",
                    "PETROMAG_R",
                    "EXTINCTION_R",
                    "REDSHIFT",
                ),
            },
        ),
        # doi:10.5281/zenodo.3565489: the images, 3.4 GB. The MD5 was seen in two public code
        # bases, not on the record's own page.
        "images": (
            {
                "name": "images_gz2.zip",
                "url": "https://zenodo.org/records/3565489/files/images_gz2.zip",
                "images": 243_434,
                "bytes": 3_400_000_000,
                "md5": "bc647032d31e50c798770cf4430525c7",
            },
        ),
    }
)
