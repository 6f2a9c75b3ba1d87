"""Airflow gets a home of its own before anything imports it: it writes its configuration where it finds none."""

import os
import tempfile

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="evergreen-airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
