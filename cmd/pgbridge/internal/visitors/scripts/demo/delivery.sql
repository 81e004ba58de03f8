-- What a lorry has brought, from a file in the bucket imports: the rows of the last
-- delivery go, and those of this one come, or nothing changes.
-- bucket: imports
DELETE FROM delivery;
COPY delivery (item, remarks) FROM STDIN (FORMAT csv, HEADER);
