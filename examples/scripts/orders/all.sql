-- All orders, to be read page by page through a cursor.
SELECT id, customer, total FROM orders ORDER BY id;
