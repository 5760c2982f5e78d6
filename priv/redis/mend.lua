-- Sets sets aside that are of another type; the jobs in them are found again by the sweep.
-- then the kind and the name of each
for i = 1, #ARGV, 2 do typed(ARGV[i + 1], ARGV[i]) end
return 'ok'
