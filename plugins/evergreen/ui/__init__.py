"""The Models pages inside Airflow: who is champion and why, and the evidence on candidates. They change nothing."""
