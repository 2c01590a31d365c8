# Reference values for predict.FitARIMA: R's arima, exact maximum likelihood, on
# 50 simulated series in 6 orders. Writes predict/testdata/fits.json:
#   Rscript tests/reference/fits.R > predict/testdata/fits.json
num <- function(v) paste0("[", paste(ifelse(is.na(v), "null", sprintf("%.10g", v)), collapse = ","), "]")
set.seed(11)
make <- function(i) {
  ar <- runif(1, -0.4, 0.8); ma <- runif(1, -0.6, 0.6); n <- 120
  x <- switch(i %% 5 + 1,
    arima.sim(list(ar = ar), n), arima.sim(list(ar = c(0.5, -0.3)), n), arima.sim(list(ar = ar, ma = ma), n),
    arima.sim(list(order = c(0, 1, 1), ma = ma), n - 1), arima.sim(list(order = c(1, 1, 1), ar = ar, ma = ma), n - 1))
  x <- round(as.numeric(x) + 50, 3)
  if (i %% 7 == 0) x[sample(n, 5)] <- NA
  x
}
series <- lapply(1:50, make)
orders <- list(c(1, 0, 0), c(1, 0, 1), c(2, 0, 0), c(0, 1, 1), c(1, 1, 1), c(2, 1, 2))
fits <- unlist(lapply(seq_along(series), function(i) sapply(orders, function(o) {
  f <- tryCatch(arima(series[[i]], order = o, method = "ML", optim.control = list(reltol = 1e-14, maxit = 2000)), error = function(e) NULL)
  if (is.null(f)) return(NA)
  p <- predict(f, n.ahead = 12)
  sprintf('{"series":%d,"p":%d,"d":%d,"q":%d,"loglik":%.10g,"forecast":%s,"sd":%s}', i - 1, o[1], o[2], o[3], f$loglik, num(as.numeric(p$pred)), num(as.numeric(p$se)))
})))
cat('{"series":[', paste(sapply(series, num), collapse = ",\n"), '],\n"fits":[', paste(fits[!is.na(fits)], collapse = ",\n"), ']}\n', sep = "")
