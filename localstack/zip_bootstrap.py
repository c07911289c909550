"""Puts a program built for this machine into a Lambda zip as its `bootstrap`: zip_bootstrap.py PROGRAM ZIP"""

import sys
import zipfile
from pathlib import Path

program, target = Path(sys.argv[1]), Path(sys.argv[2])
entry = zipfile.ZipInfo("bootstrap", date_time=(1980, 1, 1, 0, 0, 0))
entry.external_attr = 0o100755 << 16
entry.compress_type = zipfile.ZIP_DEFLATED
partial = target.with_suffix(".partial")
with zipfile.ZipFile(partial, "w", compresslevel=1) as archive:
    archive.writestr(entry, program.read_bytes())
partial.rename(target)
