-- The newest orders, of all customers when customer is null.
-- read_only: true
SELECT id, customer, total
FROM orders
WHERE CAST(@customer AS text) IS NULL OR customer ILIKE '%' || @customer || '%'
ORDER BY id DESC
LIMIT 20;
