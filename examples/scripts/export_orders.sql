-- The orders of a customer, or of all when customer is null, as CSV.
-- read_only: true
-- bucket: exports
COPY (
    SELECT id, customer, total
    FROM orders
    WHERE CAST(@customer AS text) IS NULL OR customer = @customer
    ORDER BY id
) TO STDOUT (FORMAT csv, HEADER);
