-- Takes a share off the order on which the cursor walk stands, in the same
-- transaction.
UPDATE orders SET total = round(total * (1 - @share::numeric), 2) WHERE CURRENT OF walk;
