"""Checks a parameters file against its template: every key is one, every key without a default is there, values match their pattern.

Uses cfn-lint's own reader, so it runs in the environment infra/lint makes: check_parameters.py parameters/bot.json
"""

import json
import re
import sys
from pathlib import Path

from cfnlint.decode.cfn_yaml import load

given = {entry["ParameterKey"]: entry["ParameterValue"] for entry in json.loads(Path(sys.argv[1]).read_text())}
template = load(str(Path(__file__).parent / f"{Path(sys.argv[1]).stem}.yaml"))
faults = [f"{key} is no parameter" for key in given if key not in template["Parameters"]]
for key, parameter in template["Parameters"].items():
    if key not in given:
        if "Default" not in parameter:
            faults.append(f"{key} is missing")
        continue
    if "AllowedPattern" in parameter and not re.fullmatch(parameter["AllowedPattern"], given[key]):
        faults.append(f"{key} does not match {parameter['AllowedPattern']}")
    if "AllowedValues" in parameter and given[key] not in map(str, parameter["AllowedValues"]):
        faults.append(f"{key} is not one of {parameter['AllowedValues']}")
if faults:
    sys.exit(f"infra: {sys.argv[1]}: " + "; ".join(faults))
print(f"infra: {sys.argv[1]} fits its template")
