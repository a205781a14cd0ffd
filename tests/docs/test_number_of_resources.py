"""Pages that say how many resources a deployment has agree with the notebook, whose deployment a slow test repeats."""

import json
import re

import pytest

from scripts import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial" / "from-idea-to-deploy.ipynb"


@pytest.mark.parametrize("page", ["docs/tutorial/evening.md", "docs/how-to/deploy.md", "docs/how-to/take-down.md"])
def test_a_page_has_as_many_resources_as_the_notebook_deploys(page: str) -> None:
    deployed = re.findall(r"Deployed: (\d+) changes", json.dumps(json.loads(NOTEBOOK.read_text(encoding="utf-8"))))
    told = re.findall(
        r"(?:resources: |Deployed: )(\d+)|(\d+) (?:resources\b|to add)", (ROOT / page).read_text(encoding="utf-8")
    )
    assert {one or other for one, other in told} == set(deployed)
    assert len(set(deployed)) == 1
