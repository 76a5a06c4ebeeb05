"""What a study prints: tables, figures and one self-contained page, functions of `StudyResult`."""
