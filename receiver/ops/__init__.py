"""Operations: what the people who run the service look at and do."""
