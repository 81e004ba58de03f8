-- New orders from CSV with a header line: customer, total.
-- bucket: imports
COPY orders (customer, total) FROM STDIN (FORMAT csv, HEADER);
