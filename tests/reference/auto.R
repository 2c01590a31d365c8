# Reference values for predict.AutoARIMA: what R's auto.arima chooses by default, on
# 40 simulated series of 200 values, which it compares by approximation, and 10 of 120,
# which it does not. Writes predict/testdata/auto.json:
#   Rscript tests/reference/auto.R > predict/testdata/auto.json
suppressMessages(library(forecast))
num <- function(v) paste0("[", paste(sprintf("%.10g", v), collapse = ","), "]")
set.seed(17)
make <- function(i) {
  n <- if (i <= 40) 200 else 120
  ar <- runif(1, -0.4, 0.8); ma <- runif(1, -0.8, 0.6)
  x <- switch(i %% 6 + 1,
    arima.sim(list(ar = ar), n), arima.sim(list(ar = c(0.5, -0.3, 0.2), ma = ma), n), arima.sim(list(ar = ar, ma = c(ma, 0.3)), n),
    arima.sim(list(order = c(0, 1, 1), ma = ma), n - 1), arima.sim(list(order = c(2, 1, 1), ar = c(ar / 2, 0.2), ma = ma), n - 1),
    arima.sim(list(order = c(1, 1, 0), ar = ar), n - 1) + 0.5 * seq_len(n))
  round(as.numeric(x) + 50, 3)
}
series <- lapply(1:50, make)
chosen <- sapply(series, function(x) {
  f <- auto.arima(x, seasonal = FALSE)
  o <- arimaorder(f)
  sprintf('{"p":%d,"d":%d,"q":%d,"constant":%s,"loglik":%.10g,"forecast":%s}', o[1], o[2], o[3],
    tolower(any(names(coef(f)) %in% c("intercept", "drift"))), f$loglik, num(as.numeric(forecast(f, h = 12)$mean)))
})
cat('{"series":[', paste(sapply(series, num), collapse = ",\n"), '],\n"chosen":[', paste(chosen, collapse = ",\n"), ']}\n', sep = "")
