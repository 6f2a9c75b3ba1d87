"""A health check: exit status 0 while the named part of Airflow sends heartbeats.

    python docker/airflow/beats.py scheduler | dag_processor | triggerer

Asks the API server, which costs nothing; `airflow jobs check` would load Airflow each time.
"""

import json
import sys
import urllib.request

URL = "http://api-server:8080/api/v2/monitor/health"

with urllib.request.urlopen(URL, timeout=5) as answer:
    status = (json.load(answer).get(sys.argv[1]) or {}).get("status")
print(status)
sys.exit(status != "healthy")
