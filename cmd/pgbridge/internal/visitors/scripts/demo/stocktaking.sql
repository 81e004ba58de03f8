-- What was in stock day by day, to be read page by page through a cursor.
SELECT (current_date - day) AS day, item, amount
FROM generate_series(1, 3650) AS day CROSS JOIN stock
ORDER BY 1 DESC, item;
