"""The audit: from what lies on disk to findings and a status, for a run and each of its judge slots."""
